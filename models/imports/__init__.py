"""Read what others trained; nothing in their files is executed, and no path in them is followed."""
