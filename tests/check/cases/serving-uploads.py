from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, File, UploadFile
from fastapi import UploadFile as Upload

app = FastAPI()


@app.post("/files")
async def upload(file: UploadFile) -> int:
    return len(await file.read())  # finds


@app.post("/photos")
async def photo(album: int, image: Upload = File(...)) -> None:
    with open(f"/photos/{image.filename}", "wb") as target:
        target.write(await image.read())  # finds


@app.post("/documents")
async def documents(files: Annotated[list[UploadFile], File()]) -> None:
    for each in files:
        await store(await each.read())  # finds


@app.post("/sync")
def imported(file: UploadFile | None = None) -> None:
    if file:
        parse(file.file.name)
        contents = file.read()  # finds


@app.post("/chunks")
async def chunked(file: UploadFile) -> None:
    while chunk := await file.read(65536):
        await store(chunk)
    shutil.copyfileobj(file.file, target)


async def settings(path: Path) -> str:
    with path.open() as file:
        return file.read()


@app.post("/both")
async def both(file: UploadFile) -> str:
    with open("/etc/words") as words:
        return words.read()
