#!/bin/bash
# Starts the three programs and, at the first start, makes the one user. The keys come from a file of two lines (access key,
# secret key) named by S3_KEYS_FILE, else from S3_ACCESS_KEY and S3_SECRET_KEY. STORE=bluestore keeps what is stored in /data.
set -euo pipefail

if [[ -n ${S3_KEYS_FILE:-} ]]; then
  { read -r S3_ACCESS_KEY && read -r S3_SECRET_KEY; } <"$S3_KEYS_FILE"
fi
: "${S3_ACCESS_KEY:?set S3_KEYS_FILE}" "${S3_SECRET_KEY:?set S3_KEYS_FILE}"

export CEPH_CONF=/tmp/ceph.conf
if [[ ! -s /data/fsid ]]; then
  rm -rf /data/mon /data/osd /data/rgw
  cat /proc/sys/kernel/random/uuid >/data/fsid.new
fi
fsid=$(cat /data/fsid 2>/dev/null || cat /data/fsid.new)
sed "s/^\[global\]$/[global]\nfsid = $fsid\nosd_objectstore = $STORE/" /etc/fleetloop/ceph.conf >"$CEPH_CONF"
mkdir -p /data/mon /data/osd /data/rgw

first=false
if [[ ! -s /data/fsid ]]; then
  first=true
  monmaptool --create --clobber --fsid "$fsid" --addv a '[v2:127.0.0.1:3300/0]' /tmp/monmap >/dev/null
  ceph-mon -i a --mkfs --monmap /tmp/monmap
fi
ceph-mon -i a --foreground &
if $first; then
  osd=$(cat /proc/sys/kernel/random/uuid)
  timeout 60 ceph osd new "$osd" >/dev/null
  ceph-osd -i 0 --mkfs --osd-uuid "$osd" >/dev/null
  timeout 60 ceph osd crush add osd.0 1.0 root=default host=localhost 2>/dev/null
fi
ceph-osd -i 0 --foreground &
radosgw -n client.rgw --foreground &
if $first; then
  timeout 60 radosgw-admin -n client.rgw user create --uid=fleetloop --display-name=fleetloop \
    --access-key="$S3_ACCESS_KEY" --secret-key="$S3_SECRET_KEY" >/dev/null
  mv /data/fsid.new /data/fsid
  sync /data
fi
trap 'kill $(jobs -p)' TERM INT
wait -n || true # whichever ends, the container does
kill $(jobs -p) 2>/dev/null || true
wait
