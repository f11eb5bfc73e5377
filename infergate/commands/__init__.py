"""`infergate`: the command in the foreground, and what is beside it.

check    `infergate check`: whether it would all work, and if not, why
console  the command: hands its options to twistd, or to a subcommand
usage    `infergate usage`: what the ledger holds
key      `infergate key`: a strong key, and its line for the file
"""
