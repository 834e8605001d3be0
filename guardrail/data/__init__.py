"""The data wing: from a base model and a business to the rows that matter; one function a stage."""
