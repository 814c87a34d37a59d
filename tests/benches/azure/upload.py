# What our client is measured against: one file into a page blob, by Microsoft's own client. Without words it ends once it is loaded.
import os
import sys

from azure.storage.blob import BlobClient, BlobType

if len(sys.argv) > 1:
    endpoint, account, key, ca, container, blob, file, at_once = sys.argv[1:]
    client = BlobClient(
        account_url=endpoint,
        container_name=container,
        blob_name=blob,
        credential={"account_name": account, "account_key": key},
        connection_verify=ca,
    )
    with client, open(file, "rb") as data:
        client.upload_blob(
            data,
            blob_type=BlobType.PAGEBLOB,
            length=os.path.getsize(file),
            max_concurrency=int(at_once),
        )
