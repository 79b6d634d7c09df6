"""Where a run's steps are shown besides the terminal: callbacks, and adapters of experiment trackers, a file each."""
