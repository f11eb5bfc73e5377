"""A backend to try things against, which fails as it is told: ``twistd infergate-mock``.

tap         options, and the service made of them
backend     a chat, plain and streamed, and how any answer fails
doors       what is said on the other routes of llama.cpp
"""
