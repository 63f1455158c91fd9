"""The control socket: MessagePack-RPC methods over the running router."""
