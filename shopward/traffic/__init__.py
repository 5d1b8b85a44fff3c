"""What the shop's traffic shows: which APIs there are, what they give away, who attacks them."""
