"""Restoration: what is hidden of a recording, from what is visible of it."""
