"""Names of technologies, and of tasks of their own. A query that names one is about it: an item
that does not know the name is not what was asked for, whatever else they share. Data.
"""

from __future__ import annotations

from functools import cache

from packlore.terms import forms

_NAMES = """
django drf flask bottle tornado sanic celery rq dramatiq airflow luigi dask ray spark hadoop flink
pandas numpy scipy matplotlib seaborn plotly sklearn scikit tensorflow keras torch pytorch cuda jax
huggingface transformers openai langchain llama opencv pillow jupyter notebook dataframe excel
xlsx openpyxl latex ffmpeg
java kotlin scala spring springboot hibernate maven gradle csharp dotnet aspnet entityframework
golang goroutine rust cargo tokio ruby rails activerecord php laravel symfony perl haskell elixir
erlang swift swiftui android ios flutter dart cpp cmake
javascript typescript react redux nextjs vue nuxt angular svelte jquery webpack vite npm yarn eslint
usestate useeffect css tailwind bootstrap html dom svg canvas
nginx apache caddy haproxy traefik docker dockerfile compose podman helm ingress statefulset
terraform ansible pulumi jenkins gitlab github git svn bash zsh powershell vim emacs vscode tmux
aws ec2 dynamodb cloudfront gcp bigquery azure cloudflare vercel netlify heroku
mysql mariadb sqlite oracle mssql sqlserver mongodb mongo pymongo motor beanie cassandra couchdb
neo4j clickhouse snowflake elasticsearch opensearch solr kafka rabbitmq zeromq mqtt nats memcached
graphql grpc protobuf soap websocket websockets socketio webrtc imap ftp ssh telnet ldap
activedirectory saml oauth oauth2 openid keycloak okta jwt
jinja jinja2 templating template templates beautifulsoup bs4 scrapy selenium playwright puppeteer
lxml regex regexp xml yaml toml
tkinter pyqt qt wxpython kivy pygame unity unreal godot blender arduino raspberry
openapi swagger uploadfile multipart staticfiles favicon pagination keyset
tsvector gin gist trigram jsonb postgis partition partitioning btree explain pg_dump pg_restore psql
materialized trigger
password_authentication indentationerror modulenotfounderror importerror syntaxerror
unboundlocalerror zerodivisionerror unicodedecodeerror recursionerror
dataclass dataclasses decorator metaclass walrus pip poetry conda virtualenv pyenv setuptools wheel
mypy pylint flake8 black isort asyncmock monkeypatch subprocess pty serial bluetooth usb gpio
crypto blockchain ethereum solidity bitcoin
"""


@cache
def names() -> frozenset[str]:
    """The names as terms."""
    return frozenset(term for word in _NAMES.split() for term in forms(word)[:1])
