# json, re, zlib, hashlib, struct, decimal, random with a seed, datetime, pickle, csv, unicodedata: a broad import check.
import base64
import bz2
import csv
import datetime
import decimal
import hashlib
import io
import json
import lzma
import pickle
import random
import re
import struct
import zlib

data = {"numbers": list(range(20)), "text": "é\n", "nested": [{"a": None, "b": True}]}
text = json.dumps(data, sort_keys=True)
print(json.loads(text) == data, hashlib.sha256(text.encode()).hexdigest())
blob = bytes(range(256)) * 400
for module in (zlib, bz2, lzma):
    packed = module.compress(blob)
    print(module.__name__, len(packed) < len(blob), module.decompress(packed) == blob)
random.seed(42)
print([random.randrange(1000) for _ in range(5)], round(random.gauss(0, 1), 6))
print(decimal.Decimal(2).sqrt(), struct.unpack("<Ihq", struct.pack("<Ihq", 1, -2, 3)))
print(datetime.datetime.fromtimestamp(0, datetime.timezone.utc), pickle.loads(pickle.dumps(data)) == data)
print(re.findall(r"(\w)(\d+)", "a1 b22 c333"), base64.b64encode(b"binary\x00"))
out = io.StringIO()
csv.writer(out).writerows([[1, "two, three"], ["four", 5.5]])
print(repr(out.getvalue()))
print(sum(1.0 / n for n in range(1, 10000)), 2**200 % 97, sorted("hello world"))
