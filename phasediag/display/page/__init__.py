"""The frame of every interactive page, which the kinds of study fill with their own part."""
