"""Named models: a backbone expanded from few parameters, or a module of its own."""
