"""The local runtime: model servers as child processes of one zerogate."""
