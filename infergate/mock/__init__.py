"""A backend to try things against, which fails as it is told: ``twistd infergate-mock``.

tap         options, and the service made of them
backend     a chat completion endpoint, plain and streamed
"""
