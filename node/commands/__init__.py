"""The commands of `rtnode`, by what they are about."""
