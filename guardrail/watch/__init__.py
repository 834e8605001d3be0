"""What people see: terminal, status, report."""
