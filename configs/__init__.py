"""The shipped configurations, as package data: `acbo train --config NAME` finds them anywhere."""
