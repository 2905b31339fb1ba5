#!/bin/sh
# nginx with both processes for devices behind infra/nginx/devices.conf, which names one.
set -eu
mkdir -p /tmp/fleetloop
sed 's|^    server unix:/run/fleetloop-devices/devices.sock;$|    server unix:/run/fleetloop-devices/devices-1.sock;\n    server unix:/run/fleetloop-devices/devices-2.sock;|' \
  /etc/nginx/fleetloop/devices.conf >/tmp/fleetloop/devices.conf
grep -q devices-2.sock /tmp/fleetloop/devices.conf
sed 's|include /etc/nginx/fleetloop/\*.conf;|include /tmp/fleetloop/devices.conf;\n    include /etc/nginx/people.conf;|' \
  /etc/nginx/nginx.conf >/tmp/fleetloop/nginx.conf
exec nginx -c /tmp/fleetloop/nginx.conf -g 'daemon off;'
