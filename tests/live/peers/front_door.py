"""Passes connections on to a port of this machine. Prints its own port.

usage: front_door.py PORT [--tls CERTIFICATE KEY]

--tls takes TLS off.
"""

import argparse
import asyncio
import contextlib
import ssl


async def pump(reader, writer):
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--tls", nargs=2)
    options = parser.parse_args()

    async def passed_on(reader, writer):
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", options.port)
        await asyncio.gather(pump(reader, inner_writer), pump(inner_reader, writer))

    context = None
    if options.tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*options.tls)
    server = await asyncio.start_server(passed_on, "127.0.0.1", 0, ssl=context)
    print(server.sockets[0].getsockname()[1], flush=True)  # noqa: T201  # for who started it
    await server.serve_forever()


asyncio.run(main())
