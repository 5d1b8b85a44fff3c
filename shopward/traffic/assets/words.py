"""Words of API paths: what is part of an interface's name, and what kind of thing a segment names.

A segment that is one of these is kept as it is unless everything speaks against it; a segment after a KIND is likely one of many.
"""

from __future__ import annotations

# what one does, and views of a collection: never somebody's id
ACTIONS = frozenset(
    """search list query find get add new create update edit save delete remove detail details info count counts total stats statistics summary
    export import download upload batch bulk all latest recent popular hot top trending recommended recommend recommendations suggest suggestions
    autocomplete me self current mine my login logout signin signout signup register verify confirm cancel close open refund pay apply approve
    reject submit check validate preview publish unpublish enable disable activate deactivate reset refresh revoke lock unlock follow unfollow like
    unlike favorite unfavorite vote share send resend receive read unread mark merge split copy move restore archive complete finish start stop
    pause resume retry sync compare filter sort view show index default callback notify return success failure error status health healthz
    ping ready readyz live livez metrics version versions config settings options init test debug echo schema docs swagger openapi graphql rpc
    capture authorize void track estimate calculate quote generate parse convert issue claim redeem transfer withdraw deposit bind unbind
    subscribe unsubscribe invite accept decline block unblock report scan ws websocket stream events hook hooks webhook webhooks
    forgot-password reset-password change-password two-factor""".split()
)
# a compound that starts with one of these is something one does: `deny-offer`, `getOrderList`
VERBS = frozenset(
    """accept acknowledge activate add adjudicate apply appeal approve assign authorize batch bind calculate cancel capture change check claim clear
    close complete confirm convert create deactivate delete deny disable download edit enable escalate estimate export fetch find finish forgot
    generate get import invite list load lookup make mark modify notify patch pay post preview process provide publish put query reauthorize refresh
    refund register reject release remove reopen request require resend reset resolve retry revoke save search send submit suspend sync terminate
    transfer unbind unlock update upload validate verify void withdraw""".split()
)
# things that interfaces are made of
NOUNS = frozenset(
    """api apis rest service services gateway public private internal external open openapi admin manage management
    console backend app apps mobile web site www h5 mini miniprogram wap pc ios android client clients server platform
    system core common base portal user users account accounts member members customer customers profile profiles
    person people seller sellers merchant merchants shop shops store stores vendor vendors buyer buyers creator
    creators supplier suppliers partner partners employee employees staff team teams role roles permission permissions
    group groups org orgs organization organizations company companies tenant tenants order orders cart carts basket
    baskets checkout item items line lines product products goods sku skus spu category categories catalog catalogs
    catalogue brand brands tag tags label labels collection collections inventory stock price prices pricing promotion
    promotions coupon coupons voucher vouchers discount discounts deal deals campaign campaigns activity activities
    gift gifts point points reward rewards payment payments pay payout payouts refund refunds invoice invoices bill
    bills billing card cards bank banks wallet wallets balance transaction transactions transfer transfers settlement
    settlements subscription subscriptions plan plans charge charges dispute disputes tax taxes currency shipment
    shipments shipping delivery deliveries logistics express parcel parcels package packages tracker trackers tracking
    warehouse warehouses address addresses region regions city cities country countries province provinces area areas
    location locations geo map review reviews rating ratings comment comments reply replies question questions answer
    answers message messages conversation conversations chat chats room rooms notification notifications mail mails
    email emails sms phone phones push feedback complaint complaints ticket tickets live lives stream streams video
    videos image images img photo photos avatar picture pictures file files media asset assets attachment attachments
    document documents doc document static public js css fonts content contents article articles post posts page pages
    news blog blogs topic topics feed feeds banner banners ad ads link links auth oauth oauth2 sso token tokens
    session sessions password passwords captcha otp code codes key keys secret secrets device devices login log logs
    audit event events record records history histories job jobs task tasks report reports dashboard analytics metric
    data dataset export exports import imports batch batches queue queues rule rules policy policies risk case cases
    alert alerts setting settings preference preferences config configs configuration feature features flag flags
    version versions schedule schedules child children parent parents sub subs relation relations follower followers
    following friend friends favorite favorites wishlist wishlists note notes activity limit limits quota quotas usage
    contact contacts reason reasons type types state states billing-agreements agreements authorizations captures
    referrals verification web-profiles""".split()
)
# what follows one of these is one of many, whether it is written in digits or in letters
KINDS = frozenset(
    """category categories brand brands tag tags topic topics city cities country countries region regions province
    provinces locale lang language languages currency currencies keyword keywords user users shop shops store stores
    seller sellers merchant merchants creator creators author authors channel channels room rooms product products
    item items sku skus goods article articles post posts blog blogs news page pages collection collections department
    departments color colors colour size sizes symbol symbols pair pairs team teams repo repos project projects org
    orgs tenant tenants bucket buckets topic slug name names hashtag hashtags album albums artist artists genre genres
    order orders coupon coupons event events game games course courses vendor vendors customer customers member
    members profile profiles u p c t s by date year month""".split()
)
# what follows one of these names a party or a way, each its own interface
WAYS = frozenset(
    """callback callbacks notify notification webhook webhooks hook hooks oauth oauth2 auth sso login connect provider
    providers pay payment gateway channel social third thirdparty integration integrations v1 v2 v3 v4 api rest
    service services admin internal static assets""".split()
)
LOCALE_LANGUAGES = frozenset(
    """ar bg bn cs da de el en es et fa fi fr he hi hr hu id it ja ko lt lv ms nb nl no pl pt ro ru sk sl sr sv th tl tr
    uk ur vi zh""".split()
)
STATIC = frozenset(
    """js mjs css map png jpg jpeg gif webp avif svg ico woff woff2 ttf eot otf mp3 mp4 webm m3u8 ts wasm bmp""".split()
)
DOCUMENTS = frozenset(
    """html htm php asp aspx jsp do action json xml txt csv pdf zip xlsx xls doc docx md rss atom gz apk""".split()
)


def is_plural(word: str) -> bool:
    """Does it name many of a thing (`orders`, `cities`)?

    >>> is_plural("orders"), is_plural("status"), is_plural("address")
    (True, False, False)
    """
    return len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is", "news", "sms"))


def singular(word: str) -> str:
    """One of them.

    >>> singular("orders"), singular("cities"), singular("addresses"), singular("boxes")
    ('order', 'city', 'address', 'box')
    """
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes")):
        return word[:-2]
    return word[:-1] if is_plural(word) else word
