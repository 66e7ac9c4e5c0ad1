"""Pictures that people look at: of samples, and of what else a run can show."""
