"""The stores in SQL: SQLite by default, PostgreSQL by URL. No statement is one database's own."""
