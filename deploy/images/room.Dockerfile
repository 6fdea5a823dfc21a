# The image of the demo backend, a shared room.
FROM scratch
COPY room /usr/bin/room
USER 65532:65532
ENTRYPOINT ["/usr/bin/room"]
