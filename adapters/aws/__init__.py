"""The queue on AWS SQS and the store on Cloudflare R2 or any other S3 service, through botocore.

Vendor names and errors do not leave this package, and nothing in it decides what to retry or reads a setting.
"""
