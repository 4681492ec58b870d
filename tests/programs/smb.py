"""A Windows-like client of a share: files are held under a lease and by durable handles, across a lost connection.

    smb.py PORT SHARE

Does what standard input says, and answers each line with one line. For daemon/src/watch/tests/programs.rs.

    open NAME         opens for reading and writing, with a lease for reading, writing and handle, and durable: prints both
    write TEXT        appends to the file
    read              prints what the file holds, in hexadecimal
    close
    drop              the connection is lost, and nothing said
    reconnect         a new connection takes the durable handle up again: prints "reconnected", or why not
"""

import sys
import uuid

from smbprotocol.connection import Connection
from smbprotocol.create_contexts import (
    CreateContextName,
    SMB2CreateContextRequest,
    SMB2CreateDurableHandleReconnect,
    SMB2CreateDurableHandleRequest,
    SMB2CreateRequestLease,
)
from smbprotocol.exceptions import SMBResponseException
from smbprotocol.open import (
    CreateDisposition,
    CreateOptions,
    FileAttributes,
    FilePipePrinterAccessMask,
    ImpersonationLevel,
    Open,
    RequestedOplockLevel,
    ShareAccess,
)
from smbprotocol.session import Session
from smbprotocol.tree import TreeConnect

READ, HANDLE, WRITE = 1, 2, 4


class Client:
    """One client machine."""

    def __init__(self, port, share):
        self.port, self.share, self.id = port, share, uuid.uuid4()
        self.name = self.file = self.key = None
        self.length = 0
        self.connect()

    def connect(self):
        """A new connection."""
        self.connection = Connection(self.id, "127.0.0.1", self.port, require_signing=False)
        self.connection.connect(timeout=60)
        session = Session(self.connection, "guest", "", require_encryption=False)
        session.connect()
        self.tree = TreeConnect(session, rf"\\127.0.0.1\{self.share}")
        self.tree.connect(require_secure_negotiate=False)

    def create(self, *contexts):
        """Opens the file with these contexts; those of the answer."""
        self.file = Open(self.tree, self.name)
        return self.file.create(
            ImpersonationLevel.Impersonation,
            FilePipePrinterAccessMask.FILE_READ_DATA | FilePipePrinterAccessMask.FILE_WRITE_DATA,
            FileAttributes.FILE_ATTRIBUTE_NORMAL,
            ShareAccess.FILE_SHARE_READ | ShareAccess.FILE_SHARE_WRITE | ShareAccess.FILE_SHARE_DELETE,
            CreateDisposition.FILE_OPEN_IF,
            CreateOptions.FILE_NON_DIRECTORY_FILE,
            create_contexts=list(contexts),
            oplock_level=RequestedOplockLevel.SMB2_OPLOCK_LEVEL_LEASE,
        ) or []

    def lease(self):
        """The context that asks for one."""
        lease = SMB2CreateRequestLease()
        lease["lease_key"] = self.key
        lease["lease_state"] = READ | HANDLE | WRITE
        return context(CreateContextName.SMB2_CREATE_REQUEST_LEASE, lease)

    def open(self, name):
        """Opens a file."""
        # A lease's key is that of one file.
        self.name, self.key = name, uuid.uuid4().bytes
        durable = context(CreateContextName.SMB2_CREATE_DURABLE_HANDLE_REQUEST, SMB2CreateDurableHandleRequest())
        answers = self.create(durable, self.lease())
        self.length = self.file.end_of_file
        granted = next((answer["lease_state"].get_value() for answer in answers if "lease_state" in answer.fields), 0)
        is_durable = any(type(answer).__name__ == "SMB2CreateDurableHandleResponse" for answer in answers)
        return f"lease {granted} durable {is_durable}"

    def write(self, text):
        """Appends."""
        data = text.encode()
        self.file.write(data, self.length)
        self.length += len(data)
        return "written"

    def read(self):
        """All of it."""
        return self.file.read(0, 1 << 20).hex()

    def close(self):
        """Closes the file."""
        self.file.close()
        return "closed"

    def drop(self):
        """The cable is cut."""
        self.connection.transport.close()
        return "dropped"

    def reconnect(self):
        """By the old handle."""
        handle = SMB2CreateDurableHandleReconnect()
        handle["data"] = self.file.file_id
        self.connect()
        try:
            self.create(context(CreateContextName.SMB2_CREATE_DURABLE_HANDLE_RECONNECT, handle), self.lease())
        except SMBResponseException as refused:
            return f"refused {type(refused).__name__}"
        return "reconnected"


def context(name, data):
    """A context of a create request."""
    request = SMB2CreateContextRequest()
    request["buffer_name"] = name
    request["buffer_data"] = data
    return request


def main():
    """Answers each line."""
    client = Client(int(sys.argv[1]), sys.argv[2])
    print("ready", flush=True)
    for line in sys.stdin:
        command, _, argument = line.strip().partition(" ")
        print(getattr(client, command)(*([argument] if argument else [])), flush=True)


main()
