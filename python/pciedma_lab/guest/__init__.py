"""What the lab runs in its guest: loads whose every byte is checked, and requests that are timed."""
