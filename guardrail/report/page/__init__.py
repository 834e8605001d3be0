"""The facts in words and pictures: phrases of either language, charts, the page's templates."""
