# Sourced at the end of each family's bootstrap: become "$@", or the function's wrapper script around it.
if [ -n "${AWS_LAMBDA_EXEC_WRAPPER-}" ]; then
    if [ ! -f "$AWS_LAMBDA_EXEC_WRAPPER" ]; then
        echo "$AWS_LAMBDA_EXEC_WRAPPER: does not exist" >&2
        exit 127
    fi
    if [ ! -x "$AWS_LAMBDA_EXEC_WRAPPER" ]; then
        echo "$AWS_LAMBDA_EXEC_WRAPPER: is not an executable" >&2
        exit 126
    fi
    set -- "$AWS_LAMBDA_EXEC_WRAPPER" "$@"
fi
exec "$@"
