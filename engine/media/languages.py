"""Name languages as media containers do."""

from __future__ import annotations

# two letters of ISO 639-1 -> three letters of ISO 639-2/T, which MP4 asks for
_ISO_639_2 = dict(
    pair.split(":")
    for pair in (
        "af:afr ar:ara az:aze be:bel bg:bul bn:ben bs:bos ca:cat cs:ces cy:cym da:dan de:deu el:ell en:eng "
        "es:spa et:est eu:eus fa:fas fi:fin fr:fra ga:gle gl:glg gu:guj he:heb hi:hin hr:hrv hu:hun hy:hye "
        "id:ind is:isl it:ita ja:jpn ka:kat kk:kaz km:khm kn:kan ko:kor lo:lao lt:lit lv:lav mk:mkd ml:mal "
        "mn:mon mr:mar ms:msa my:mya nb:nob ne:nep nl:nld nn:nno no:nor pa:pan pl:pol ps:pus pt:por ro:ron "
        "ru:rus si:sin sk:slk sl:slv sq:sqi sr:srp sv:swe sw:swa ta:tam te:tel th:tha tl:tgl tr:tur uk:ukr "
        "ur:urd uz:uzb vi:vie yi:yid yo:yor zh:zho zu:zul"
    ).split()
)


def get_iso639_code(language: str) -> str | None:
    """Get the code of three letters that containers store for a language tag such as "fr" or "pt-BR".

    None where the table does not have it.
    Source: ISO 639-2; IETF BCP 47 for the tag.
    """
    name = language.replace("_", "-").split("-")[0].lower()
    return name if len(name) == 3 and name.isalpha() else _ISO_639_2.get(name)
