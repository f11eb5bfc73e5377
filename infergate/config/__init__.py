"""What was asked for: one frozen value, and all that is known of each setting.

A setting is one named choice of the operator's, such as `PORT`; its text is written in one of four
sources and parsed once. What is wrong is a `SettingsError`, one line for people.

manual    the settings as text for people: options, help, the example, the page
otel      the standard OTEL_* variables
dotenv    the file .env
loading   the settings as they are read at the start
settings  each setting, its default and what is allowed
sources   where a setting is written: option, environment, .env, a file of its own
values    what one setting may be
"""
