"""The feed: vectors back in, typed, and out to other tools."""
