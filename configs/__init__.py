"""The shipped configurations, as package data: `acbo train --config production` finds them anywhere."""
