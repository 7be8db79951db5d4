from fastapi import FastAPI
from fastapi.middleware import Middleware
from fastapi.middleware.cors import CORSMiddleware
from starlette.middleware.cors import CORSMiddleware as Cors

app = FastAPI()
origins = ["*"]
named = ["https://shop.example.com"]

app.add_middleware(CORSMiddleware, allow_credentials=True, allow_origins=origins)  # finds

app.add_middleware(  # finds
    Cors,
    allow_origins=("*",),
    allow_methods=["*"],
    allow_credentials=True,
)

outer = CORSMiddleware(app, allow_origins="*", allow_credentials=True)  # finds

other = FastAPI(
    middleware=[
        Middleware(Cors, allow_origins=["http://localhost:3000", "*"], allow_credentials=True),  # finds
    ]
)

app.add_middleware(CORSMiddleware, allow_origin_regex=".*", allow_credentials=True)  # finds
app.add_middleware(CORSMiddleware, allow_origin_regex=r"https?://.*", allow_credentials=True)  # finds


def create_app() -> FastAPI:
    made = FastAPI()
    everyone = ["*"]
    made.add_middleware(CORSMiddleware, allow_origins=everyone, allow_credentials=True)  # finds
    return made


app.add_middleware(CORSMiddleware, allow_origins=["*"])  # finds
app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_credentials=False, allow_headers=["*"])  # finds
app.add_middleware(CORSMiddleware, allow_origins=named, allow_credentials=True, allow_methods=["*"])  # finds
app.add_middleware(  # finds
    CORSMiddleware,
    allow_origins=["https://shop.example.com"],
    allow_credentials=True,
    allow_headers=["*"],
    expose_headers=["*"],
)
app.add_middleware(  # finds
    CORSMiddleware,
    allow_origin_regex=r"https://.*\.shop\.example\.com",
    allow_credentials=True,
)
app.add_middleware(CORSMiddleware, allow_origins=settings.origins, allow_credentials=True)  # finds
app.add_middleware(HostsMiddleware, allow_origins=["*"], allow_credentials=True)

wrapped = CORSMiddleware(app, allow_origins=["https://shop.example.com"], allow_credentials=True)
made = FastAPI(middleware=[Middleware(HostsMiddleware, hosts=["shop.example.com"])])
app.add_middleware(GZipMiddleware, minimum_size=1000)
