"""An encoder behind HTTP: `lightxling serve`, with the OpenAI embeddings format (extra `serve`).

    settings.py   where the server listens and what a request may ask for
    access.py     who may ask: names of the server, the key
    protocol.py   what a request may say and what is answered, errors included
    batching.py   one thread that encodes what several requests wait for, together
    app.py        the routes, limits and metrics
    connections.py  how many connections, how long each may take, how they end
    server.py     the process, from its start to its end

One process serves one encoder. An accepted request is answered: SIGTERM and Ctrl-C stop the
listening, let what is in flight finish, and end the process with exit code 0.
"""
