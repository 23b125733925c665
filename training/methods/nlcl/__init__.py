"""NLCL: unpaired training by non-local contrastive learning."""
