"""A backend to try things against, which fails as it is told: ``twistd infergate-mock``.

tap      options, and the service made of them
backend  the routes, and how an answer is sent
replies  what is answered, and how any answer fails
doors    the routes of llama.cpp, and what is said on most of them
openai   what is said on those of OpenAI
asked    a request, and one route that it may come by
script   how a request is to be answered
"""
