"""A mail relay that delivers nothing: aiosmtpd on loopback, which says what it is sent and misbehaves as it is told to.

    relay.py [--port PORT] [--tls CERTIFICATE KEY [--at-once]] [--user NAME PASSWORD] [--refuse ADDRESS] [--later ADDRESS] [--cut N]

Prints the port that it listens on, then a line of JSON for each mail, as Python's own parser reads it. It refuses one address for
good and takes another only from the second attempt on, and the first N mails it takes it breaks off, without a word.
"""

import argparse
import asyncio
import email
import email.policy
import json
import ssl

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

arguments = argparse.ArgumentParser()
arguments.add_argument("--port", type=int, default=0)
arguments.add_argument("--tls", nargs=2)
arguments.add_argument("--at-once", action="store_true")
arguments.add_argument("--user", nargs=2)
arguments.add_argument("--refuse")
arguments.add_argument("--later")
arguments.add_argument("--cut", type=int, default=0)
told = arguments.parse_args()


def say(what):
    print(json.dumps(what), flush=True)


class Handler:
    def __init__(self):
        self.cut = told.cut
        self.later = told.later

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address == told.refuse:
            return "550 5.1.1 nobody of that name"
        if address == self.later:
            self.later = None
            return "451 4.7.1 come back later"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        say({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "encrypted": server.transport.get_extra_info("ssl_object") is not None,
            "user": session.auth_data.login.decode() if session.authenticated else None,
            "headers": [[name, str(value)] for name, value in mail.items()],
            "parts": [part.get_content_type() for part in mail.walk()],
            "body": mail.get_content().replace("\r\n", "\n"),
            "defects": [str(defect) for defect in mail.defects],
            "raw": envelope.content.decode("latin-1"),
        })
        if self.cut > 0:
            self.cut -= 1
            server.transport.abort()
        return "250 2.0.0 kept"


def enter(server, session, envelope, mechanism, data):
    right = isinstance(data, LoginPassword) and [data.login.decode(), data.password.decode()] == told.user
    return AuthResult(success=right, handled=False, auth_data=data)


async def serve():
    context = None
    if told.tls:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*told.tls)
    handler = Handler()
    asked = context if not told.at_once else None

    def session():
        return SMTP(
            handler,
            hostname="relay.example",
            tls_context=asked,
            require_starttls=asked is not None,
            authenticator=enter if told.user else None,
            auth_required=told.user is not None,
            auth_require_tls=asked is not None,
        )

    at_once = context if told.at_once else None
    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", told.port, ssl=at_once)
    say(server.sockets[0].getsockname()[1])
    await server.serve_forever()


asyncio.run(serve())
