"""One module a tab: build() lays it out, thin handlers turn values into requests, frames into pictures."""
