"""Pure statistics: harms → streams → verdict."""
