"""Archives: many clips, resumed after a stop, verified before they get their names; dry parts can stay as they are."""
