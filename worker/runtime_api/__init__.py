"""The server side of Lambda's Runtime API 2018-06-01, for one environment at a time."""
