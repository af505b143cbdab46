"""One run as processes: who starts it, who supervises it, who executes it."""
