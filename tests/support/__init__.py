"""What several test stages share."""
