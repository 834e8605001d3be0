"""The seam into ms-swift."""
