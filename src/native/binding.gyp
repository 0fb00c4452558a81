{
  "targets": [
    {
      "target_name": "arctic_native",
      "sources": [
        "addon.cc", "sockets.cc", "poller.cc", "namespaces.cc",
        "tunnel/addon_tunnel.cc", "tunnel/aead.cc", "tunnel/aegis128l.cc", "tunnel/datagram.cc", "tunnel/egress.cc", "tunnel/ingress.cc",
        "tunnel/loop.cc", "tunnel/packet.cc", "tunnel/policy.cc", "tunnel/table.cc"
      ],
      "defines": ["NAPI_VERSION=8", "_GNU_SOURCE"],
      "cflags": ["-Wall", "-Wextra", "-Werror", "-O2", "-fvisibility=hidden"],
      "cflags_cc": ["-std=c++17"]
    }
  ],
  "conditions": [
    # The relay needs the OpenSSL headers that belong to the node binary. Without them the TypeScript relay does its work.
    ["'<!(test -e <(node_root_dir)/include/node/openssl/evp.h && echo yes || echo no)' == 'yes'", {
      "targets": [
        {
          "target_name": "arctic_relay",
          "sources": [
            "relay/accept.cc",
            "relay/binding.cc",
            "relay/commands.cc",
            "relay/configure.cc",
            "relay/congestion.cc",
            "relay/dial.cc",
            "relay/fairness.cc",
            "relay/flow.cc",
            "relay/frames.cc",
            "relay/handshake.cc",
            "relay/link.cc",
            "relay/link_keys.cc",
            "relay/loop.cc",
            "relay/observe.cc",
            "relay/path.cc",
            "relay/pool.cc",
            "relay/relay.cc",
            "tunnel/aegis128l.cc",
            "relay/stream_link.cc",
            "kcp/association.cc",
            "kcp/datagram.cc",
            "kcp/endpoint.cc",
            "kcp/endpoint_sockets.cc",
            "kcp/gf256.cc",
            "kcp/groups.cc",
            "kcp/keys.cc",
            "kcp/rate_control.cc",
            "kcp/reed_solomon.cc",
            "kcp/sending.cc",
            "kcp/stream.cc"
          ],
          "defines": ["NAPI_VERSION=8", "_GNU_SOURCE"],
          "cflags": ["-Wall", "-Wextra", "-Werror", "-O2", "-fvisibility=hidden"],
          "cflags_cc": ["-std=c++17"]
        }
      ]
    }]
  ]
}
