{
  "targets": [
    {
      "target_name": "arctic_native",
      "sources": ["addon.cc", "sockets.cc", "poller.cc", "namespaces.cc"],
      "defines": ["NAPI_VERSION=8", "_GNU_SOURCE"],
      "cflags": ["-Wall", "-Wextra", "-Werror", "-O2", "-fvisibility=hidden"],
      "cflags_cc": ["-std=c++17"]
    }
  ]
}
