"""PostgreSQL: the pool, the writer, the migrations, the embedded server."""
