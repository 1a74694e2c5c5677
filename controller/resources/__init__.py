"""One folder per Lambda resource, each with routes, schemas, service and ports."""
