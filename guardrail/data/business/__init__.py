"""What one business asks of its answers: probes of its own, and what its debts came to."""
