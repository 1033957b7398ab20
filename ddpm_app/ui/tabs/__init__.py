"""One module a tab: build() lays it out, thin handlers turn values into a request and frames into pictures."""
