"""Archives: many clips, resumed where they stopped, verified before they get their names; dry ones left alone."""
