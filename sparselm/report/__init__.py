"""What people read: the report of a result, the progress table, and the report as JSON."""
